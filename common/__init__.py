"""What both ends of a federation must agree on. Imports neither `server` nor `client`."""
