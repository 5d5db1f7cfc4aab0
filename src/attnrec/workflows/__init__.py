"""One plain function per command: takes a config, returns a frozen report, never prints or exits."""
