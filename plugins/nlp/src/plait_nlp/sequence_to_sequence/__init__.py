"""How is a text written for a text: translation and summarization?"""
