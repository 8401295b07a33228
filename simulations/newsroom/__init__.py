"""Made newsrooms, and how one data set is split over outlets."""
