"""What is learned when an image gets one of several labels, and by which models?"""
