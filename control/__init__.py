"""The control plane: all that talks to the outside."""
