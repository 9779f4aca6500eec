"""The kinds of sightings, a module for each law that they are about; see `gradcheck_lint.runtime.sighting`."""
