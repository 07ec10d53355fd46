"""The live probe: what is at the other end of a URL, and which settings are right there.

It connects, reads constants, and creates nothing that it does not take away again.
"""
