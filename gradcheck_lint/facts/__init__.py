"""What rules ask about the code that was read: of a timeline, of a class, of an optimizer; and how to write a fix."""
