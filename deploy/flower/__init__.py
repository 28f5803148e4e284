"""Every touch of Flower's insides, and how its programs are started."""
