"""The same models and updates as others would write them: what the harness is compared with.

Each module is one way of doing it. A rival is a competent and idiomatic program in its library, in float32 and without
validation of arguments; none copies code of the packages it uses.
"""
