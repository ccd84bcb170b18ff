"""Checks of committed files by what others publish; run by ``make check``, no part of the program.

A check whose tool is missing on a machine says "not run" with the reason, and never that it passed.
"""
