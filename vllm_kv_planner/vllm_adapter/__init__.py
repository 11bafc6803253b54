"""What does vLLM itself say? Its own code plans, in a process of its own.

The only folder that imports vLLM, and only its ``internals`` do: they run in the child process
that ``client.py`` starts. Nothing here is imported until the vLLM planner is asked for.
"""
