// Any bytes into the pgoutput decoder: messages of one stream, each after its length in 32 bits, as
// captured in tests/data/pgoutput. No crash, no read past the end, and no change that does not fit
// its relation.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <unordered_set>

#include "daemon/sources/postgres/pgoutput.h"

namespace {

using namespace evictd;

class Receiver : public PgoutputReceiver {
 public:
  void on_begin(const BeginMessage&) override {
    if (open_) std::abort();
    open_ = true;
  }
  void on_change(const Change& change) override {
    if (!open_) std::abort();
    const std::size_t columns = change.relation->columns.size();
    if (!change.new_row.empty() && change.new_row.size() != columns) std::abort();
    if (!change.old_row.empty() && change.old_row.size() != columns) std::abort();
    for (const Value& value : change.new_row) read(value);
    for (const Value& value : change.old_row) read(value);
  }
  void on_commit(Lsn) override {
    if (!open_) std::abort();
    open_ = false;
  }
  void on_relation_gone(const Relation&) override {}
  void on_logical_message(std::string_view prefix, std::string_view content) override {
    for (const char c : prefix) sum_ = sum_ + static_cast<unsigned char>(c);
    for (const char c : content) sum_ = sum_ + static_cast<unsigned char>(c);
  }

 private:
  void read(const Value& value) {
    if (value.state != ValueState::kText && !value.text.empty()) std::abort();
    for (const char c : value.text) sum_ = sum_ + static_cast<unsigned char>(c);
  }
  bool open_ = false;
  volatile unsigned sum_ = 0;  // so that every byte is really read
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  PgoutputDecoder decoder;
  Receiver receiver;
  std::size_t at = 0;
  while (size - at >= 4) {
    const std::size_t length = (std::size_t{data[at]} << 24) | (std::size_t{data[at + 1]} << 16) |
                               (std::size_t{data[at + 2]} << 8) | data[at + 3];
    at += 4;
    const std::size_t taken = length < size - at ? length : size - at;
    // A buffer of exactly this size: a sanitizer sees the first byte read too many.
    const std::unique_ptr<char[]> message(new char[taken]);
    for (std::size_t i = 0; i < taken; ++i) message[i] = static_cast<char>(data[at + i]);
    at += taken;
    static_cast<void>(PgoutputDecoder().described({message.get(), taken}));
    // After an error the daemon drops the stream.
    if (!decoder.decode(Lsn{}, {message.get(), taken}, receiver)) break;
  }
  return 0;
}
