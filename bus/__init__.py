"""Accept, route, queue, deliver, track: the bus itself, its surfaces and its command line."""
