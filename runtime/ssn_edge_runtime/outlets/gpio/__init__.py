"""A wire to the line: the accept pulse, by a process that ends it on time whatever happens."""
