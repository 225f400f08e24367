"""Both ends of the line: where items come from (`sources`), where outcomes go (`sinks`).

Nothing in here knows about pools or processes; a source is an iterable, a sink takes outcomes.
"""
