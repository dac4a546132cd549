include: "workflows/Snakefile"


rule everything:  # the default target of an included file is none of the file that includes it
    default_target: True
    input:
        rules.all.input,
