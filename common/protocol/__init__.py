"""What crosses the wire: messages, how they are read, how arrays lie in them."""
