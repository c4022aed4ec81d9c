"""What things look like: messages, identifiers, problems, codecs and schemas. Knows nothing of the other rooms."""
