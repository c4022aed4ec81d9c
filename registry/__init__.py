"""Who may exchange what with whom: agencies, systems, data services, grants. Knows nothing of connectors and bus."""
