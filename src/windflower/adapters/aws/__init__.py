"""A fleet behind AWS IoT Core: what the template makes, and how it is reached."""
