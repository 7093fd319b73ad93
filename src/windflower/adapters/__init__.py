"""The world, by place: each place implements the ports that it needs."""
