"""Reporting: tables, figures, the report and publications, made from measurements."""
