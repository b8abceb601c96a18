// The figures of one epoch. Losses are means per image.
#pragma once

#include <cstdint>

namespace cenote::network {

struct EpochMetrics {
  std::int64_t epoch = 0;  // from 1
  double training_loss = 0;
  double validation_loss = 0;
  double validation_accuracy = 0;         // 0 to 1
  double images_per_second = 0;           // of the training steps
  double baseline_images_per_second = 0;  // 0 without a baseline
  double baseline_validation_accuracy = 0;
};

/// Sums over the training steps of an epoch that is not finished.
struct StepSums {
  double loss = 0;  // summed over images
  std::int64_t images = 0;
  double seconds = 0;
};

}  // namespace cenote::network
