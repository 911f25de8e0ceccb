"""What is learned: vectors by which texts of like meaning are found."""
