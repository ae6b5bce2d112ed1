"""Views of `Episodes` under the APIs of PettingZoo and Gymnasium. They only reshape its results."""
