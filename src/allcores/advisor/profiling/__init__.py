"""`allcores profile`: which loops of a program could be maps, and what that would give the whole of it.

program.py runs the program with a sampler in each of its processes (startup/, sampler.py, facts.py); records.py reads
what they wrote; sites.py, names.py, independence.py and effects.py read the program's source; attribution.py brings the
two together; ranking.py predicts; rewrite.py and loops.py write the change; occupation.py tells where the seconds of
cores went; report.py shows all of it.
"""
