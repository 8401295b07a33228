"""A day of a consortium in minutes: outlets' speeds and hours, and rounds on a virtual clock."""
