"""Episodes of test users, intervals, bounds, and the table that shows them."""
