# The public client library: headers, one archive per stage it needs, pkg-config file.
