"""What `hairpin run` was told: options from the command line and from rtpengine's configuration file.

readers      text -> values                   keyfile   the file's syntax, which is GLib's
options      the one table: class Config      foreign   rtpengine's options that mean nothing here
interfaces   names, addresses, port ranges    load      command line and file -> Config, with all that is wrong
show         Config -> a file that reads back as the same
"""

from control.config.declare import Option
from control.config.errors import ConfigError
from control.config.interfaces import HostAddress, Interface, resolve
from control.config.load import DEFAULT_FILE, DEFAULT_SECTION, Loaded, check, examine, load, parser, read_file
from control.config.options import Config, options
from control.config.readers import LOCAL_NETWORKS, Network

__all__ = [
    "DEFAULT_FILE",
    "DEFAULT_SECTION",
    "LOCAL_NETWORKS",
    "Config",
    "ConfigError",
    "HostAddress",
    "Interface",
    "Loaded",
    "Network",
    "Option",
    "check",
    "examine",
    "load",
    "options",
    "parser",
    "read_file",
    "resolve",
]
