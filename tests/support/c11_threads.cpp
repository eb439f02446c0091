// For the thread sanitizer alone, which knows pthread_create(3) and its kin and not those of C11 (threads.h), with which librdkafka makes
// its threads: one that it has not seen begin ends with the first thing that it sees of it. glibc's mtx_t and cnd_t are pthread_mutex_t and
// pthread_cond_t (its manual, "ISO C Threads"; they are initialised and waited for by the same functions), so one can stand for the other.
#include <pthread.h>
#include <threads.h>

#include <cerrno>
#include <cstdint>
#include <memory>

namespace {

static_assert(sizeof(mtx_t) <= sizeof(pthread_mutex_t) && sizeof(cnd_t) == sizeof(pthread_cond_t));

struct Begin {
  thrd_start_t function;
  void* argument;
};

void* run(void* given) {
  const std::unique_ptr<Begin> begin(static_cast<Begin*>(given));
  return reinterpret_cast<void*>(static_cast<std::intptr_t>(begin->function(begin->argument)));
}

pthread_mutex_t* of(mtx_t* mutex) { return reinterpret_cast<pthread_mutex_t*>(mutex); }
pthread_cond_t* of(cnd_t* condition) { return reinterpret_cast<pthread_cond_t*>(condition); }

int result_of(int error) { return error == 0 ? thrd_success : error == ETIMEDOUT ? thrd_timedout : error == EBUSY ? thrd_busy : thrd_error; }

}  // namespace

extern "C" {

int thrd_create(thrd_t* thread, thrd_start_t function, void* argument) {
  auto begin = std::make_unique<Begin>(Begin{function, argument});
  const int error = pthread_create(thread, nullptr, run, begin.get());
  if (error == 0) static_cast<void>(begin.release());
  return result_of(error);
}

int thrd_join(thrd_t thread, int* result) {
  void* returned = nullptr;
  const int error = pthread_join(thread, &returned);
  if (result != nullptr) *result = static_cast<int>(reinterpret_cast<std::intptr_t>(returned));
  return result_of(error);
}

int mtx_init(mtx_t* mutex, int type) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  if ((type & mtx_recursive) != 0) pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
  const int error = pthread_mutex_init(of(mutex), &attributes);
  pthread_mutexattr_destroy(&attributes);
  return result_of(error);
}
void mtx_destroy(mtx_t* mutex) { pthread_mutex_destroy(of(mutex)); }
int mtx_lock(mtx_t* mutex) { return result_of(pthread_mutex_lock(of(mutex))); }
int mtx_unlock(mtx_t* mutex) { return result_of(pthread_mutex_unlock(of(mutex))); }

int cnd_init(cnd_t* condition) { return result_of(pthread_cond_init(of(condition), nullptr)); }
void cnd_destroy(cnd_t* condition) { pthread_cond_destroy(of(condition)); }
int cnd_signal(cnd_t* condition) { return result_of(pthread_cond_signal(of(condition))); }
int cnd_broadcast(cnd_t* condition) { return result_of(pthread_cond_broadcast(of(condition))); }
int cnd_wait(cnd_t* condition, mtx_t* mutex) { return result_of(pthread_cond_wait(of(condition), of(mutex))); }
int cnd_timedwait(cnd_t* condition, mtx_t* mutex, const timespec* until) { return result_of(pthread_cond_timedwait(of(condition), of(mutex), until)); }
}
