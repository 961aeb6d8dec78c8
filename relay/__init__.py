"""The media engine: what happens to packets. Knows nothing of ng, SDP text, Redis or BGP."""
