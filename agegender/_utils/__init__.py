"""The ground floor: files, checks, targets, rows and figures that every other part uses."""
