"""What do recommenders need of data, tasks, models and metrics?"""
