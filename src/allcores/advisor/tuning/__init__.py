"""`allcores.tune`: searches the best setting of a function, and keeps it.

tune.py      one run after the other, as `model.search` says, each kept in the journal
pools.py     the pools that settings run on
tuning.py    what is returned; record.py has its parts, text.py and json_object.py show it
"""
