"""What the gateway's RPCs do: each module is a service's table of methods and their handlers."""
