"""The ng protocol: its encodings, datagrams, commands and sockets."""
