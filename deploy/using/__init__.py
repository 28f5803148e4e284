"""Using a model on images that are here: assign, embed, look, name, hand on. Nothing leaves."""
