"""What a site operator starts: joining, staying, looking at what left."""
