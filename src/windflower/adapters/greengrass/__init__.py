"""On a Greengrass v2 core, whose nucleus holds the connection to AWS IoT Core."""
