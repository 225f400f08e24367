"""Measures a function, says what pays, and proves it: `allcores.advise` and `allcores advise`.

model/        pure: what was measured in, a recommendation out; formulas, decisions, intervals, pitfalls, code
measuring/    the measurements: in this process, in threads, in workers
confirm.py    winner and runner-up against the loop, on real work, in balanced and shuffled order
advise.py     one after the other, within a budget of seconds
text.py, page.py, json_object.py    what people and machines are shown
"""
