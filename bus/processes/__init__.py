"""Long flows as data: a BPMN file says what is sent when, what is waited for and until when, and what undoes it."""
