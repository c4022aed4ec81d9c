"""Drafts of services from the descriptions that partners hand out: WSDL and OpenAPI.

``sources`` is where documents may come from, ``wsdl`` and ``openapi`` read them, ``draft`` makes manifests of what they
found. Nothing here changes the registry: ``lgsp registry apply`` does, with the files that a person has looked at.
"""
