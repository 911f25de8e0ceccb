"""Which recommenders are fitted without gradients?"""
