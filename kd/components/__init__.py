"""`use` + `args` -> object: found, trusted, its call checked before it is made."""
