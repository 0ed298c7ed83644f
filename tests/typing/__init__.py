"""Public types of the task framework, checked as a user of it is checked."""
