"""The pilot of a catalog: which sentences change rankings, and what there is to gain."""
