"""One Flower app, over one bad link, on Flower's SuperLink and on windflower."""
