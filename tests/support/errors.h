// Expecting a cenote::Error with a code and fragments of its text.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <source_location>
#include <string>

#include "cenote/error.h"

namespace cenote_test {

/// `call` must throw cenote::Error with this code and a text that contains every fragment.
template <class Call>
void expect_error(const Call& call, cenote::ErrorCode code, std::initializer_list<const char*> fragments,
                  const std::source_location& from = std::source_location::current()) {
  const ::testing::ScopedTrace trace(from.file_name(), static_cast<int>(from.line()), "expect_error");
  try {
    call();
  } catch (const cenote::Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << text;
    for (const char* fragment : fragments) {
      EXPECT_NE(text.find(fragment), std::string::npos) << "no \"" << fragment << "\" in: " << text;
    }
    return;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "expected a cenote::Error, got " << error.what();
    return;
  }
  ADD_FAILURE() << "expected a cenote::Error, nothing was thrown";
}

template <class Call>
void expect_invalid(const Call& call, std::initializer_list<const char*> fragments,
                    const std::source_location& from = std::source_location::current()) {
  expect_error(call, cenote::ErrorCode::kInvalidArgument, fragments, from);
}

template <class Call>
void expect_overflow(const Call& call, std::initializer_list<const char*> fragments,
                     const std::source_location& from = std::source_location::current()) {
  expect_error(call, cenote::ErrorCode::kOverflow, fragments, from);
}

}  // namespace cenote_test
