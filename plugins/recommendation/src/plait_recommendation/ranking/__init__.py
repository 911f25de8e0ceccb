"""What does ranking need: cases and splits, a task, an evaluator?"""
