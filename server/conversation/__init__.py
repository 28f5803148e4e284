"""The conversation with the sites: who is there, what they are asked, what is believed."""
