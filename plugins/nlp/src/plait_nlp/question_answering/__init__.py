"""Where in a context is the answer to a question?"""
