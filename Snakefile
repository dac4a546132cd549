include: "workflows/Snakefile"


workflow.default_target = "all"  # which an include does not pass on
