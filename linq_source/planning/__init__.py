"""What to ask for, what an answer proves and what to remember: pure functions and generators.

Nothing here knows the network, dlt, the clock or the environment. A reading is a generator: it
yields the pages it wants (`Ask`) and the rows it has (`WindowToLoad`), and is sent the answers.
"""
