"""Who gets shown: floors of exposure, what slates owe by them and how slots are drawn then, and the groups told of."""
