"""Language models: how probable is each next token of a text?"""
